"""Fine-tune CaffeNet, VGG-16 and ResNet-50 on the Oxford-102 flowers the Caffe way."""

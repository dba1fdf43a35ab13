"""Networks: HRNet, ResNet and DLA backbones with CenterNet heads; every variant is a row of the table in variants."""

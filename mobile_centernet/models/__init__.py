"""Networks: HRNet, ResNet and DLA bodies with CenterNet heads; every variant is a row of the table in registry."""

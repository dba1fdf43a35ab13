"""Networks: HRNet bodies with CenterNet heads; every variant is a row of the table in registry."""

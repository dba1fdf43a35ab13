"""What runs on a device. Imports no torch, no lightning, no pydantic."""

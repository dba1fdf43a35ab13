"""ONNX files that prove themselves, TensorRT build plans."""

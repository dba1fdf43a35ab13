"""Whatever runs a model, anywhere: ONNX Runtime, torch, TensorRT; images, streams and videos."""

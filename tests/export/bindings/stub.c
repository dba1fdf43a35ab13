/* What NVIDIA's Python bindings want from libnvinfer & co. to be imported. Nothing here is ever called. */
#define STUB(name) void *name(void) { return 0; }
STUB(createInferBuilder_INTERNAL)
STUB(createInferRuntime_INTERNAL)
STUB(createInferRefitter_INTERNAL)
STUB(createNvOnnxParser_INTERNAL)
STUB(createNvOnnxParserRefitter_INTERNAL)
STUB(getPluginRegistry)
STUB(getBuilderPluginRegistry)
STUB(getNvOnnxParserVersion)
STUB(initLibNvInferPlugins)
/* 8.6 only: the parsers of UFF and Caffe */
STUB(_ZN11nvuffparser15createUffParserEv)
STUB(_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi)
STUB(_ZN14nvcaffeparser117createCaffeParserEv)
STUB(_ZN14nvcaffeparser123shutdownProtobufLibraryEv)

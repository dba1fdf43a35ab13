"""`preprocessing` for a device: OpenCV where it is installed, else numpy and Pillow, which give the same pixels.

OpenCV with the libraries in its wheel is 160 MB, nearly as much as everything else on a device together.
"""

try:
    from mobile_centernet.preprocessing import boxes_to_original, read_image, to_input

    BACKEND = "opencv"
except ImportError:
    from mobile_centernet.edge.without_opencv import boxes_to_original, read_image, to_input

    BACKEND = "numpy"

__all__ = ["BACKEND", "boxes_to_original", "read_image", "to_input"]

"""Mobile CenterNet: a small, distilled traffic detector for embedded devices."""

__version__ = "0.1.0"

"""Archives from http(s) and cloud addresses: resumed, verified, unpacked."""

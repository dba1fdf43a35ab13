"""What keeps a device on its channel: fetch, verify, test, switch, watch, revert. No torch, no pydantic."""

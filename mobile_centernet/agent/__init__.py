"""What keeps a device on its channel: fetch, verify, prove, switch, watch, revert. No torch, no pydantic."""

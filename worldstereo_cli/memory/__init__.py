"""What has been seen so far, and which of it helps the next frame."""

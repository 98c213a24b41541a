"""Text-only decoders: capture works on them, and plans that drop whole layers."""

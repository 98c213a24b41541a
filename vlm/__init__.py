"""A live Hugging Face vision-language model: read its states, skip its layers."""

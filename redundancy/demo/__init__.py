"""The bundled vision-language model, its data, and the guided tour through the whole path."""

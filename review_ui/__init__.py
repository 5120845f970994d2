"""The browser's side: a guarded web server, the picture routes, and the Gradio page on top."""

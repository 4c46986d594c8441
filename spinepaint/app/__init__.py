"""What users touch: the HTTP gateway and the command line. Importing it never imports torch."""

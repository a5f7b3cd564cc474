"""What is kept on the local disk: clean blocks, dirty bytes and their journal."""

"""Who may say what devices run: roles, statements and a repository of The Update Framework, and its keys."""

"""Who may call: tokens with a role, scopes and an end."""

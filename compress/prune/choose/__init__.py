"""What goes: a goal, a cost that predicts it, and the selection that reaches it with the least lost."""

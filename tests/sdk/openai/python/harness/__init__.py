"""What the tests are played on: a server, a scripted model behind it, and a network between that can be cut."""

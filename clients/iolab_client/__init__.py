"""iolab-client: talks to the models, checks their contract, shows what they wait in."""

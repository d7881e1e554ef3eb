"""What stage train is made of: batches of photos changed at random, the loop, and what follows its epochs."""

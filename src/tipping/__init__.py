"""Which filters does a convolutional network rely on, and at how many removed does its accuracy tip?"""

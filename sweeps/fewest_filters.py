"""The fewest relevant filters that tip a network, over mu and its architecture: python sweeps/fewest_filters.py

The same as `tipping fewest`. Its function under @hydra.main, a word that completion by the tab key looks for in this
file, is in tipping.command.fewest_filters.
"""

from tipping.command.fewest_filters import main

if __name__ == "__main__":
    main()

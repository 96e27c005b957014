"""At which mu does a network tip? A search for each network: python sweeps/tipping_point.py seed=0,1,2

The same as `tipping search`. Its function under @hydra.main, a word that completion by the tab key looks for in this
file, is in tipping.command.tipping_point.
"""

from tipping.command.tipping_point import main

if __name__ == "__main__":
    main()

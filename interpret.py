"""Which filters does a network rely on, and what is left without them? python interpret.py -m mu=10,100,500,700

The same as `tipping interpret`. Its function under @hydra.main, a word that completion by the tab key looks for in this
file, is in tipping.command.interpret, and the job in tipping.experiment.interpret.
"""

from tipping.command.interpret import main

if __name__ == "__main__":
    main()

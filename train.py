"""Train a network, or several with -m: python train.py model.filters=32 trainer.max_epochs=2 seed=0

The same as `tipping train`. Its function under @hydra.main, a word that completion by the tab key looks for in this
file, is in tipping.command.train, and the job in tipping.experiment.train.
"""

from tipping.command.train import main

if __name__ == "__main__":
    main()

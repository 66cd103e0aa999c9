"""Train on LibriSpeech subsets.

    python recipes/librispeech/train.py --config recipes/librispeech/conf/mini.yaml

Every setting of trainer, model and data is an option; ``--help`` lists them and
``--print_config`` shows what a run would use. The same command goes on from the last checkpoint.
"""

from asr.training import main

if __name__ == "__main__":
    main()

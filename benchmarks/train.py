"""The table of ``lacewing bench train`` as a script: ResNet-20 against a plain loop, perceptrons in stacks.

python benchmarks/train.py
"""

from lacewing.bench import train

if __name__ == "__main__":
    print(train())

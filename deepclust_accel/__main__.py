"""``python -m deepclust_accel`` and ``torchrun -m deepclust_accel`` are the command line."""

from deepclust_accel.cli import main

if __name__ == "__main__":
    main()

"""Prints what this release calls the machine."""

from code.common.systems.system_list import MATCHED_SYSTEM

if __name__ == "__main__":
    print(MATCHED_SYSTEM)

"""Keeping a warehouse: `gc` removes what nothing needs, `fsck` names what is damaged, `versions` compares, deletes."""

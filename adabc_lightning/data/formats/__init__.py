"""Readers, a module for each layout of a log: what a file holds as blocks of D4RL's columns.

A reader turns a file or a folder into a :class:`~adabc_lightning.data.formats.source.Source`;
:func:`~adabc_lightning.data.formats.find.open_log` finds the reader by what is in the file. What is
done with episodes, orders and ends is one thing for all of them, in ``data/episodes.py``.
"""

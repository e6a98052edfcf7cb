"""The guided lab: twelve stations from pixels to a Vision Transformer, and checks that name the mistake.

stations/    what is asked of an answer: a file each
solutions/   the answers, from which the start files are made
mistakes/    wrong answers by name
checking     contract -> properties -> comparison -> transplant, in order, up to the first that fails
process      the reader's file, run by itself with a limit on time and memory
"""

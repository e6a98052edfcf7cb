"""The guided lab: twelve stations from pixels to a Vision Transformer, with checks that name the mistake.

stations/     what each answer is tested on: one file per station
solutions/    the right answers, from which the start files are built
mistakes/     named wrong answers, one function each
stages        file -> contract -> properties -> comparison -> integration, up to the first stage that fails
isolation     runs the reader's file in a process of its own, with limits on time and memory
"""

"""What captions say where the tokens from which a prediction is read were assumed and not measured (`explain.readout`).

`{}` is what was assumed, in words.
"""

NO_GRADIENT = (
    " No gradient of some of these images' outputs reaches any token: their predictions are assumed to be read from "
    "the tokens that those of the other images are read from."
)
NOT_REACHED = (
    " Vitral could not measure which tokens the prediction is read from, since no gradient of the output reaches them: "
    "{} is assumed."
)
NOT_MEASURED = (
    " Vitral could not measure which tokens the prediction is read from, since the last layer attends within windows "
    "and the places of the tokens after it are not known: {} is assumed."
)
NOT_PLACED = (
    " Vitral could not measure which tokens the prediction is read from, since it is not known what the tokens after "
    "the last block are: {} is assumed."
)
NOT_RETURNED = (
    " Vitral could not measure which tokens the prediction is read from, since no block of the model returns them, and "
    "no gradient of the output reaches what its last attention returned: {} is assumed."
)
UNSETTLED = (
    " The output depends on some tokens much less than on others, perhaps only because it is normalised over all of "
    "them: all of them are assumed to be read."
)

"""The checks of a record, each a function from the opened record to an outcome; `nvkit.record.verify` names them."""

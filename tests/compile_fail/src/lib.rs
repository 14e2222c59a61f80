//! Programs with a mistake each, and what their authors read. All of it is in `tests`.

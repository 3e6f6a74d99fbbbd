//! The examples stand beside this file, each a program of its own.

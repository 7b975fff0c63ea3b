//! Flights, windows, prefetch, and the memory budget.

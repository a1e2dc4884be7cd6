//! Sequence, co-access, placement and gate models, their artifact format and registry.

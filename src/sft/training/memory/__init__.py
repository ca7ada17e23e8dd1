"""How much memory training needs, known before a weight is read.

batch -> skeleton -> trace -> estimate -> fit -> proposals; then measured, beside what was estimated.

The run's own code is run once on a model of the same build whose tensors have shapes and no content, and what is alive
is counted (``trace``). So an architecture, an attention or a loss that changes is estimated as it is, without formulas
of its own. Formulas are left for what such a run cannot show: states of optimizers, and what is shared out.
"""

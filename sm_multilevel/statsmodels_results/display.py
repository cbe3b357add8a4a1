"""How results show themselves in notebooks and papers."""

from __future__ import annotations

import html
from typing import Any

__all__ = ["DisplayMethods"]

# Rows above which a notebook does not wait for what a summary takes a pass over the rows for.
_MANY_ROWS = 100_000


class DisplayMethods:
    """HTML, Markdown and LaTeX of the results of all models.

    Not used directly; `MultilevelResults` has it.
    """

    model: Any
    nobs: float
    summary: Any
    _facts: Any

    def to_markdown(self, **kwargs: Any) -> str:
        """The summary as tables of GitHub-flavoured Markdown, for a README or a report.

        Parameters
        ----------
        **kwargs
            ``yname, xname, title, alpha, eform`` of `summary`.

        Returns
        -------
        str

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> res = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleepstudy.load_pandas().data).fit()
        >>> print(res.to_markdown().split("\\n\\n")[3])
        | Fixed effects |     coef | std err |      z | P>\\|z\\| |  [0.025 |  0.975] |
        | :------------ | -------: | ------: | -----: | ------: | ------: | ------: |
        | Intercept     | 251.4051 |   9.747 | 25.794 |   0.000 | 232.302 | 270.508 |
        | Days          |  10.4673 |   0.804 | 13.015 |   0.000 |   8.891 |  12.044 |
        """
        return self.summary(**kwargs).as_markdown()

    def to_latex(self, **kwargs: Any) -> str:
        """The summary in LaTeX, as ``summary().as_latex()``; it needs the package booktabs.

        Parameters
        ----------
        **kwargs
            ``yname, xname, title, alpha, eform`` of `summary`.

        Returns
        -------
        str

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.to_latex().count("tabular")
        8
        """
        return self.summary(**kwargs).as_latex()

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, or the part of it that needs no pass over the rows.

        The latter where there are many rows and no summary was asked for yet, and where the rows are
        gone and with them what the rest is computed from.
        """
        from sm_multilevel.summary.summarize import brief

        if self._facts is None and (self.model.design is None or len(self.model.design.endog) > _MANY_ROWS):
            return brief(self).as_html()
        try:
            return self.summary().as_html()
        except (ValueError, MemoryError) as error:
            return f"<p>{html.escape(f'{self!r}: summary() failed: {error}')}</p>"

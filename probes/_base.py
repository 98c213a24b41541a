"""What scikit-learn expects of an estimator, without importing it."""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray, matrix

__all__ = ["Probe", "states"]


def states(x: Any, name: str = "x") -> FloatArray:
    """Read states as a matrix; integers become float64, half precision float32.

    Raises
    ------
    InputError
        If they are sparse, or what `estimators` refuses: NaN, infinite, of another shape.
    """
    if hasattr(x, "toarray"):
        raise InputError(f"{name} is sparse, which probes do not support; pass {name}.toarray()")
    kind = getattr(getattr(x, "dtype", None), "kind", "")
    if kind in ("i", "u", "b") or (not kind and not hasattr(x, "__dlpack__")):
        x = np.asarray(x)
        x = x.astype(np.float64) if x.dtype.kind in "iub" else x
    return matrix(x, name, min_samples=1)


class Probe:
    """Parameters by name, and a `repr`; subclasses take their options as keywords only."""

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(n for n in inspect.signature(cls.__init__).parameters if n != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Options and their values; `deep` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change options.

        Raises
        ------
        InputError
            If there is no such option.
        """
        names = self._names()
        for name, value in params.items():
            if name not in names:
                raise InputError(
                    f"{type(self).__name__} has no option {name!r}; it has {', '.join(names)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items())
        return f"{type(self).__name__}({options})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        classifier = self._is_classifier()
        return Tags(
            estimator_type="classifier" if classifier else "regressor",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classifier else None,
            regressor_tags=None if classifier else RegressorTags(),
        )

    def _is_classifier(self) -> bool:
        raise NotImplementedError

    def _read(self, x: Any, y: Any) -> FloatArray:
        """Read states to fit to; scikit-learn counts on `n_features_in_`."""
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        out = self._two_dimensional(x)
        if len(out) < 2:
            raise InputError(f"x has {len(out)} sample, and a probe is fitted to at least 2")
        self.n_features_in_ = int(out.shape[1])
        return out

    def _two_dimensional(self, x: Any) -> FloatArray:
        if len(getattr(x, "shape", (0, 0))) == 1:
            raise InputError(
                "x has one dimension; Reshape your data: x.reshape(-1, 1) for one coordinate, "
                "x.reshape(1, -1) for one sample"
            )
        return states(x)

    def _check_fitted(self, x: Any, width: int | None) -> FloatArray:
        if width is None:
            raise not_fitted(f"this {type(self).__name__} is not fitted; call fit(x, y) first")
        out = self._two_dimensional(x)
        if out.shape[1] != width:
            raise InputError(
                f"x has {out.shape[1]} coordinates, and the probe was fitted on {width}"
            )
        return out


def not_fitted(sentence: str) -> InputError:
    """Return an error that scikit-learn's own tools know too."""
    from sklearn.exceptions import NotFittedError

    class NotFitted(InputError, NotFittedError):  # type: ignore[misc]  # sklearn has no types
        pass

    return NotFitted(sentence)


def r_squared(z: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Share of the total variance explained, all columns together."""
    z = np.asarray(z, dtype=np.float64).reshape(len(z), -1)
    prediction = np.asarray(prediction, dtype=np.float64).reshape(z.shape)
    residual = float(((z - prediction) ** 2).sum())
    total = float(((z - z.mean(0)) ** 2).sum())
    if total == 0.0:
        raise InputError("y is constant, so no share of its variance can be explained")
    return 1.0 - residual / total

"""A model as an ONNX file: what ``lacewing export`` writes for runtimes other than torch."""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from lacewing.errors import UsageError, needs_extra

if TYPE_CHECKING:
    from torch import nn

OPSET = 18  # the one that torch translates to without a conversion, and onnxruntime reads since 1.14


def to_onnx(model: nn.Module, shape: tuple[int, ...], metadata: Mapping[str, str], *, tokens: bool = False) -> bytes:
    """A model as one ONNX document: input ``x``, float32 (batch, *shape), output ``logits``, float32 (batch, classes).

    The batch size is free. Weights lie inside, zeros kept; batch norm is folded into the convolution before it. Of
    what torch's exporter notes about the source code (paths, lines, stack traces) nothing remains.

    Args:
        model: on the CPU, in evaluation mode.
        shape: of one record.
        metadata: the document's ``metadata_props``.
        tokens: the input is int64, since it holds token ids.

    Raises:
        UsageError: the extra ``onnx`` is not installed, or torch cannot translate the model.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise needs_extra("writing ONNX", str(error.name), "onnx") from None
    import torch

    with _quiet():
        try:
            program = torch.onnx.export(
                model,
                # One record would make the batch size a constant.
                (torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32),),
                dynamo=True,
                dynamic_shapes=({0: "batch"},),
                input_names=["x"],
                output_names=["logits"],
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            why = textwrap.shorten(str(error.__cause__ or error), 300, placeholder=" ...")
            raise UsageError(
                f"torch cannot translate this model to ONNX ({why}); change the model, or export to .safetensors."
            ) from error
    assert program is not None
    document = program.model_proto
    _strip(document)
    onnx.helper.set_model_props(document, dict(metadata))
    content: bytes = document.SerializeToString()
    return content


def _strip(message: Any) -> None:
    """Clear, everywhere in a protobuf message, the notes that ONNX allows and no runtime reads."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress, its list of libraries that are absent, and a deprecation that is torch's own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)

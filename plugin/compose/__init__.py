"""Alerts become sealed mail: templates in a sandbox, attachments, headers, MIME; 7-bit octets with CRLF."""

from plugin.compose.composer import Composer, Sealed
from plugin.compose.rendering import Rendered, TemplateFailed, TemplateUnknown, template_names

__all__ = ["Composer", "Rendered", "Sealed", "TemplateFailed", "TemplateUnknown", "template_names"]

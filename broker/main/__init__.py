"""The composition root: the only place that names concrete classes.

foundation   the store, the keys, the audit, what is known of the configuration
token_flows  GetToken and what it stands on
admin_flows  what operators do
serving      listeners, the process's life and its end
"""

from broker.main.serving import migrate, serve

__all__ = ["migrate", "serve"]

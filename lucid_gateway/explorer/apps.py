from django.apps import AppConfig


class ExplorerConfig(AppConfig):
    name = "lucid_gateway.explorer"
    verbose_name = "Request explorer"

    def ready(self) -> None:
        """Let `manage.py prune` delete kept requests, too."""
        from accounts.prune import more_tasks  # noqa: PLC0415  # models load only now
        from lucid_gateway.explorer.pruning import prune_tasks  # noqa: PLC0415

        more_tasks.append(prune_tasks)

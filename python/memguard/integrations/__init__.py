"""memguard in the services it runs in, a line each:

    memguard.integrations.gunicorn.install(globals(), max_rss_mb=400)
    memguard.integrations.celery.install(celery_app, max_rss_mb=400)
    memguard.integrations.flask.init_app(app)
    memguard.integrations.fastapi.init_app(app)      # or starlette
    application = memguard.integrations.django.init_app(get_wsgi_application())

Each starts a ResourceManager in every worker process and tells it the load, so that
what can wait is done between requests or tasks. With `max_rss_mb` a worker that stays
over it ends after its request or task and its service starts another: see `Limits`.

Nothing here is imported by `import memguard`; each module imports the package that
it is named after.
"""

from __future__ import annotations

from memguard.integrations._worker import Limits, Worker, shared_manager

__all__ = ["Limits", "Worker", "shared_manager"]

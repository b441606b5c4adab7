"""What people are told when an answer does not come about: one table, a row a code, a column a language.

A sentence says what happened and what to do, in words that need no knowledge of the inside; it never quotes a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["LANGUAGES", "SENTENCES", "language_of", "sentence"]

LANGUAGES: Final = ("en", "de", "fr", "es")

SENTENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "all_providers_failed": {
        "en": "The language model cannot be reached right now. Please try again in a minute.",
        "de": "Das Sprachmodell ist gerade nicht erreichbar. Bitte versuchen Sie es in einer Minute noch einmal.",
        "fr": "Le modèle de langage est injoignable pour le moment. Veuillez réessayer dans une minute.",
        "es": "El modelo de lenguaje no está disponible en este momento. Inténtelo de nuevo en un minuto.",
    },
    "deadline_exceeded": {
        "en": "The language model took too long to answer. Please try again, or ask for less at once.",
        "de": "Das Sprachmodell hat zu lange gebraucht. Bitte versuchen Sie es noch einmal, oder fragen Sie weniger auf einmal.",
        "fr": "Le modèle de langage a mis trop de temps à répondre. Veuillez réessayer ou en demander moins à la fois.",
        "es": "El modelo de lenguaje tardó demasiado en responder. Inténtelo de nuevo o pida menos de una vez.",
    },
    "providers_unavailable": {
        "en": "The language model is recovering from a failure. Please try again in a moment.",
        "de": "Das Sprachmodell erholt sich gerade von einer Störung. Bitte versuchen Sie es gleich noch einmal.",
        "fr": "Le modèle de langage se remet d'une panne. Veuillez réessayer dans un instant.",
        "es": "El modelo de lenguaje se está recuperando de un fallo. Inténtelo de nuevo en un momento.",
    },
    "rate_limited": {
        "en": "The language model is answering too many people right now. Please try again shortly.",
        "de": "Das Sprachmodell beantwortet gerade zu viele Fragen. Bitte versuchen Sie es in Kürze noch einmal.",
        "fr": "Le modèle de langage répond à trop de demandes en ce moment. Veuillez réessayer bientôt.",
        "es": "El modelo de lenguaje está atendiendo demasiadas peticiones. Inténtelo de nuevo en breve.",
    },
    "stream_interrupted": {
        "en": "The answer was interrupted and is not complete. Please ask again.",
        "de": "Die Antwort wurde unterbrochen und ist nicht vollständig. Bitte fragen Sie noch einmal.",
        "fr": "La réponse a été interrompue et n'est pas complète. Veuillez reposer votre question.",
        "es": "La respuesta se interrumpió y no está completa. Vuelva a preguntar.",
    },
    "invalid_request": {
        "en": "The provider could not work with this request as it is.",
        "de": "Der Anbieter konnte mit dieser Anfrage so nichts anfangen.",
        "fr": "Le fournisseur n'a pas pu traiter cette demande telle quelle.",
        "es": "El proveedor no pudo procesar esta petición tal como está.",
    },
    "context_length_exceeded": {
        "en": "This conversation is too long for the language model. Please start a new one, or shorten it.",
        "de": "Dieses Gespräch ist für das Sprachmodell zu lang. Bitte beginnen Sie ein neues, oder kürzen Sie es.",
        "fr": "Cette conversation est trop longue pour le modèle de langage. Veuillez en commencer une autre ou la raccourcir.",
        "es": "Esta conversación es demasiado larga para el modelo de lenguaje. Empiece una nueva o acórtela.",
    },
    "unsupported": {
        "en": "No provider of this model can do what the request asks for.",
        "de": "Kein Anbieter dieses Modells kann, was die Anfrage verlangt.",
        "fr": "Aucun fournisseur de ce modèle ne peut faire ce que demande la requête.",
        "es": "Ningún proveedor de este modelo puede hacer lo que pide la petición.",
    },
    "static": {
        "en": "I cannot reach my language model right now. Please try again in a minute.",
        "de": "Ich erreiche mein Sprachmodell gerade nicht. Bitte versuchen Sie es in einer Minute noch einmal.",
        "fr": "Je n'arrive pas à joindre mon modèle de langage pour le moment. Veuillez réessayer dans une minute.",
        "es": "Ahora mismo no puedo conectar con mi modelo de lenguaje. Inténtelo de nuevo en un minuto.",
    },
}


def language_of(accept: str, default: str) -> str:
    """The first language of an Accept-Language header that there are sentences in; else *default*."""
    for part in accept[:200].split(","):
        tag = part.partition(";")[0].strip().lower().partition("-")[0]
        if tag in LANGUAGES:
            return tag
    return default


def sentence(code: str, language: str) -> str:
    """The sentence for a code; one that has none is told as a failure of all providers."""
    row = SENTENCES.get(code) or SENTENCES["all_providers_failed"]
    return row.get(language) or row["en"]

"""DICOMweb under /dicom-web (PS3.18): store uploads, find and retrieve them and what was made of them."""

from spinepaint.app.dicom_web.routes import router

__all__ = ["router"]

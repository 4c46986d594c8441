"""Which attributes of a source MR image stay true of an edited copy, as tables (PS3.3 A.4.3 and A.36.2).

Whatever is not listed is dropped: private attributes, attributes of other IODs, and those that describe
other pixels or another instance (pixel value extremes, icons, overlays, regions of interest, signatures,
coercion and transfer histories, the procedure step that made the source, its references).
"""


def _keywords(text: str) -> frozenset[str]:
    return frozenset(text.split())


PATIENT_AND_STUDY = _keywords(
    """
    SpecificCharacterSet TimezoneOffsetFromUTC CodingSchemeIdentificationSequence ContributingEquipmentSequence
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID OtherPatientIDsSequence
    OtherPatientNames PatientBirthDate PatientBirthTime PatientSex PatientSexNeutered PatientComments EthnicGroupCodeSequence
    PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence
    BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization
    PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence LongitudinalTemporalInformationModified
    PatientAge PatientSize PatientWeight PatientBodyMassIndex PregnancyStatus MedicalAlerts Allergies SmokingStatus
    AdditionalPatientHistory AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientState Occupation
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName
    ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialTimePointID ClinicalTrialTimePointDescription
    ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription
    StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber IssuerOfAccessionNumberSequence
    ReferringPhysicianName ReferringPhysicianIdentificationSequence ConsultingPhysicianName PhysiciansOfRecord
    NameOfPhysiciansReadingStudy ProcedureCodeSequence RequestingService ReasonForVisit
    """
)

SERIES_AND_EQUIPMENT = _keywords(
    """
    Modality SeriesDate SeriesTime SeriesNumber Laterality BodyPartExamined PatientPosition AnatomicalOrientationType
    ProtocolName OperatorsName PerformingPhysicianName RequestAttributesSequence
    FrameOfReferenceUID PositionReferenceIndicator
    Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions StationName InstitutionName InstitutionAddress
    InstitutionalDepartmentName GantryID DeviceUID SpatialResolution DateOfLastCalibration TimeOfLastCalibration
    SOPClassUID InstanceNumber InstanceCreationDate InstanceCreationTime ContentDate ContentTime
    AcquisitionDate AcquisitionTime AcquisitionDateTime AcquisitionNumber AcquisitionDuration
    """
)

PIXELS = _keywords(
    """
    SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
    PixelPaddingValue PixelPaddingRangeLimit BurnedInAnnotation RecognizableVisualFeatures PresentationLUTShape
    LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod
    """
)

CONTRAST = _keywords(
    """
    ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusRoute ContrastBolusAdministrationRouteSequence
    ContrastBolusVolume ContrastBolusStartTime ContrastBolusStopTime ContrastBolusTotalDose ContrastBolusIngredient
    ContrastBolusIngredientConcentration ContrastFlowRate ContrastFlowDuration
    """
)

MR_IMAGE = _keywords(
    """
    AcquisitionUID ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName AngioFlag RepetitionTime EchoTime
    InversionTime NumberOfAverages ImagingFrequency ImagedNucleus EchoNumbers MagneticFieldStrength
    NumberOfPhaseEncodingSteps EchoTrainLength PercentSampling PercentPhaseFieldOfView PixelBandwidth
    ReceiveCoilName TransmitCoilName AcquisitionMatrix InPlanePhaseEncodingDirection FlipAngle VariableFlipAngleFlag
    SAR B1rms dBdt ReconstructionDiameter SliceProgressionDirection TriggerTime NominalInterval BeatRejectionFlag
    LowRRValue HighRRValue IntervalsAcquired IntervalsRejected PVCRejection SkipBeats HeartRate CardiacNumberOfImages
    TriggerWindow TemporalPositionIdentifier NumberOfTemporalPositions TemporalResolution IsocenterPosition
    ImageOrientationPatient ImagePositionPatient PixelSpacing SliceThickness SpacingBetweenSlices SliceLocation
    PatientOrientation ImageLaterality ImagesInAcquisition AnatomicRegionSequence PrimaryAnatomicStructureSequence
    ImageComments WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    """
)

# Without the MR Pulse Sequence module (PS3.3 C.8.13.4), which a derived image may not have.
ENHANCED_MR_IMAGE = _keywords(
    """
    AcquisitionContextSequence AcquisitionContextDescription AcquisitionContrast ApplicableSafetyStandardAgency
    ApplicableSafetyStandardDescription B1rms BulkMotionCompensationTechnique BulkMotionSignalSource
    CardiacBeatRejectionTechnique CardiacFramingType CardiacRRIntervalSpecified CardiacSignalSource
    CardiacSynchronizationTechnique ComplexImageComponent ContrastBolusAgentSequence
    DimensionIndexSequence DimensionOrganizationSequence DimensionOrganizationType ImageComments IsocenterPosition
    KSpaceFiltering MagneticFieldStrength NumberOfFrames
    PatientEquipmentRelationshipCodeSequence PatientOrientationCodeSequence PerFrameFunctionalGroupsSequence
    PixelPresentation ResonantNucleus RespiratoryMotionCompensationTechnique RespiratorySignalSource
    RespiratoryTriggerDelayThreshold RespiratoryTriggerType SharedFunctionalGroupsSequence
    VolumeBasedCalculationTechnique VolumetricProperties
    """
)

COMMON = PATIENT_AND_STUDY | SERIES_AND_EQUIPMENT | PIXELS
CLASSIC = COMMON | CONTRAST | MR_IMAGE
ENHANCED = (COMMON | ENHANCED_MR_IMAGE) - {"AcquisitionDate", "AcquisitionTime"}

OF_A_REQUEST = _keywords("AccessionNumber IssuerOfAccessionNumberSequence RequestAttributesSequence")
"""What names the real examination's order, and so does not go into a new study."""

TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
    "Manufacturer", "PositionReferenceIndicator",
)  # fmt: skip
"""Attributes that must be there and may be empty (PS3.5 7.4.3), in both MR IODs."""

TYPE_2_CLASSIC = (
    *TYPE_2,
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
    "SliceThickness",
)
TYPE_2_ENHANCED = (*TYPE_2, "AcquisitionContextSequence")
